"""`evy`, also as `python -m actors`."""

from actors._cli import main

if __name__ == "__main__":
    main()
