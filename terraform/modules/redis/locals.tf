# What can be told without asking AWS; tests evaluate it.

locals {
  # "user forebay-gateway on resetchannels …": its name, and its rights as ElastiCache takes them.
  lines  = regexall("(?m)^user (forebay-[a-z]+) (on [^\\n]+)$", file(var.users_file))
  rights = { for line in local.lines : trimprefix(line[0], "forebay-") => replace(line[1], "forebay:", "${var.key_prefix}:") }
  port   = 6379
  family = "valkey${split(".", var.engine_version)[0]}"

  # Celery can't use a Cluster: its messages have a server of their own, which may forget them.
  has_broker = var.durable

  # ElastiCache's own names of nodes: NAME-0001-001 in a Cluster, NAME-001 else.
  nodes = toset(var.durable ? [
    for pair in setproduct(range(1, 1 + var.shards), range(1, 2 + var.replicas)) :
    "${var.name}-${format("%04d-%03d", pair[0], pair[1])}"
  ] : [for at in range(1, 2 + var.replicas) : "${var.name}-${format("%03d", at)}"])
}
