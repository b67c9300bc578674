"""The pages of the documentation, and the hook that builds them."""
