"""`python -m clawchat` is `clawchat`."""

from clawchat.cli import main

if __name__ == "__main__":
    main()
