"""Notices of what changes: topics, subscriptions, and their delivery from the store's outbox."""
