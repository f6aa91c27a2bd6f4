"""`python -m forebay.cli` is `forebay`: how `forebay up` starts its processes."""

from forebay.cli.main import main

if __name__ == "__main__":
    main()
