"""What exists only for speed: blocked attention and seeded dropout, tested equal to the plain versions."""
