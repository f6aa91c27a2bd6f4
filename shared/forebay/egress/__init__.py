"""The one place that calls out: webhooks are sent, and inputs fetched, through here.

    URL ─check─▶ resolve ─check each address─▶ connect to one ─▶ no redirects, a bounded answer

Whoever names a URL must not be able to make this machine ask its neighbours: its own ports, the
network it is in, the cloud's metadata. So addresses are checked, not names, and what was checked is
what is connected to.

    special   pure: addresses that are no place of the internet
    rules     pure: which URLs and addresses may be called
    connect   resolves a name and connects only to what the rules allow
    client    a request with bounds on time and bytes
"""
