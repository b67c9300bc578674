"""``bench report``: one HTML file with the tables, the curves, and videos to compare by eye."""
