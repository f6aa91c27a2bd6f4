"""Images for models: a file's bytes in, a tensor out, with Pillow and numpy alone.

    decode   bytes to an upright image, within bounds
    pixels   an image to what the graph takes, as the manifest's `ImageForm` says

Each step gives the very values that transformers' image processors give where Pillow does their
work (decision 0025).
"""
