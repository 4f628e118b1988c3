"""Work that goes on after its request was answered, in small steps that survive their process."""
