"""Older places of names."""
