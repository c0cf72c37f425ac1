"""Operations that exist only for speed. Tests show that each one equals its plain version."""
