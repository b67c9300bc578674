"""Models on disk: the format (``io``), the names that need no path (``zoo``), the hub (``hub``), model cards."""
