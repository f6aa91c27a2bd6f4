"""The command line: thin verbs over the packages. Each imports what it runs only when it runs.

main     the verbs, and what an error looks like to people
flags    options that are settings
models   `forebay models …`
predict  a small HTTP client
dead     `forebay dead …`: dead letters
letters  what that prints
workers  `forebay workers …`: who works, loading and unloading
show     tables and shortened vectors

Errors made on purpose end in one line on stderr and exit code 1; a service whose configuration or
artifact is wrong ends with 78, which tells its supervisor that no other start would help.
"""
