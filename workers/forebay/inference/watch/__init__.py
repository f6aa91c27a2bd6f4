"""What a worker remembers of what it serves: counts, for `forebay models drift`.

    backend ◀──Watched──▶ Sketcher ──every few seconds──▶ Redis

watched   a backend around the backend, which shows the sketcher some of the rows
sketcher  takes a sample, counts
bins      pure: which bin of which statistic a row falls into
vectors   the same where numpy is needed
telling   adds what was counted to the day's in Redis
"""
