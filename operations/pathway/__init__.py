"""The pathway of keyworking: its states, what may follow what, and what each move demands."""
