"""Webhooks: what they look like, where they may go, and how they are sent."""
