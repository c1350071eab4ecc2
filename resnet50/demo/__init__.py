"""Pictures and processes of the demo."""
