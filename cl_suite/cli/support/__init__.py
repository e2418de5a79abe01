"""What commands share beside their flags: what they print, what they write."""
