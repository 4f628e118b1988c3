"""The audit: what each request leaves behind, and how it is read, shown and verified."""
