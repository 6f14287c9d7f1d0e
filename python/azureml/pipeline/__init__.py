"""Pipelines come with a later release; the names import, and say so on first use."""
