"""Who may ask for what, and how much: `auth = "keys"`.

    request ─▶ Door ─▶ Keyring      whose API key this is, at most 2 s old
                 └───▶ Allowances   requests a minute and at once, lent by Redis in slices
                        └─▶ visitor: the key that all that follows asks for scopes and ownership

Nothing of a request but its headers has been read when it is let in or refused.
"""
