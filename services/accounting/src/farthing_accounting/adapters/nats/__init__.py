"""The usage stream in, announcements out."""
