"""Operations as anyone would plug them in, for tests of the door that they come through."""
