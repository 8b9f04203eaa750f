class Strengthened:
    pass
