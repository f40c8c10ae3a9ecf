"""The rules of accounting: values in, values out. No network, no clock, no store."""
