"""What an evaluation found class by class, as tables and as a page."""
