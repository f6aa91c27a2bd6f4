# ElastiCache for Valkey, with replicas in other zones, TLS, and a user for each kind of process:
# either a Cluster that writes down what it is given in two zones before it answers (`durable`), or one
# primary whose replicas have it in memory. Why, and what each may lose: docs/decisions/0077-terraform.md.

locals {
  host   = var.durable ? aws_elasticache_replication_group.this.configuration_endpoint_address : aws_elasticache_replication_group.this.primary_endpoint_address
  scheme = var.durable ? "rediss+cluster" : "rediss"
  path   = var.durable ? "" : "/0"

  urls = merge(
    {
      for who, password in random_password.user :
      who => "${local.scheme}://forebay-${who}:${password.result}@${local.host}:${local.port}${local.path}"
    },
    {
      for broker in aws_elasticache_replication_group.broker :
      "broker" => "rediss://forebay-background:${random_password.user["background"].result}@${broker.primary_endpoint_address}:${local.port}/0"
    },
  )
}

module "key" {
  source = "../key"

  name        = "${var.name}-redis"
  description = "Redis of ${var.name}"
  log_groups  = ["/forebay/${var.name}/redis/*"]
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name_prefix = "${var.name}-redis-"
  description = "Redis of ${var.name}: asked by the cluster, asks nobody."
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-redis" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "Forebay on ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

locals {
  parameters = {
    # A full server refuses (503 with Retry-After), instead of forgetting what it has accepted.
    "maxmemory-policy" = "noeviction"
    # What a fork for a snapshot or a new replica needs while much is written.
    "reserved-memory-percent" = "25"
  }
}

resource "aws_elasticache_parameter_group" "this" {
  name        = "${var.name}-${local.family}"
  family      = local.family
  description = "Nothing is evicted: what is queued is no cache."

  dynamic "parameter" {
    for_each = merge(local.parameters, var.durable ? { "cluster-enabled" = "yes" } : {})

    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "random_password" "user" {
  for_each = local.rights

  length  = 48
  special = false # it stands in a URL
}

resource "aws_elasticache_user" "this" {
  for_each = local.rights

  user_id       = "${var.name}-${each.key}"
  user_name     = "forebay-${each.key}"
  engine        = "valkey"
  access_string = each.value

  authentication_mode {
    type      = "password"
    passwords = [random_password.user[each.key].result]
  }
}

# Everybody who says no name would be this one. It may do nothing, and its password is nowhere else.
resource "random_password" "default" {
  length  = 64
  special = false
}

resource "aws_elasticache_user" "default" {
  user_id       = "${var.name}-default"
  user_name     = "default"
  engine        = "valkey"
  access_string = "off -@all"

  authentication_mode {
    type      = "password"
    passwords = [random_password.default.result]
  }
}

resource "aws_elasticache_user_group" "this" {
  user_group_id = var.name
  engine        = "valkey"
  user_ids      = concat([aws_elasticache_user.default.user_id], [for user in aws_elasticache_user.this : user.user_id])
}

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338:how long is the environment's to say; production keeps a year
  for_each = toset(["engine-log", "slow-log"])

  name              = "/forebay/${var.name}/redis/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = module.key.arn
}

resource "aws_elasticache_replication_group" "this" {
  # checkov:skip=CKV_AWS_31:users with passwords of their own stand in the place of one token for all
  replication_group_id = var.name
  description          = "Queue, results and records of Forebay"
  engine               = "valkey"
  engine_version       = var.engine_version
  node_type            = var.node_type
  port                 = local.port

  # Whether it is durable at all is decided when it is made, and never changed.
  durability                 = var.durable ? "sync" : null
  cluster_mode               = var.durable ? "enabled" : "disabled"
  num_node_groups            = var.durable ? var.shards : null
  replicas_per_node_group    = var.durable ? var.replicas : null
  num_cache_clusters         = var.durable ? null : 1 + var.replicas
  automatic_failover_enabled = true
  multi_az_enabled           = true

  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = [aws_security_group.this.id]
  parameter_group_name = aws_elasticache_parameter_group.this.name
  user_group_ids       = [aws_elasticache_user_group.this.user_group_id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = module.key.arn

  snapshot_retention_limit  = var.snapshot_days
  snapshot_window           = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  final_snapshot_identifier = var.final_snapshot ? "${var.name}-last" : null

  # A new minor version ends each node once, in the window above.
  auto_minor_version_upgrade = true
  apply_immediately          = false

  dynamic "log_delivery_configuration" {
    for_each = aws_cloudwatch_log_group.this

    content {
      destination      = log_delivery_configuration.value.name
      destination_type = "cloudwatch-logs"
      log_format       = "json"
      log_type         = log_delivery_configuration.key
    }
  }
}

resource "aws_elasticache_parameter_group" "broker" {
  count = local.has_broker ? 1 : 0

  name        = "${var.name}-broker-${local.family}"
  family      = local.family
  description = "Nothing is evicted: messages are no cache."

  dynamic "parameter" {
    for_each = local.parameters

    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Messages between the background and its clock: small, and made again if they are lost.
resource "aws_elasticache_replication_group" "broker" {
  # checkov:skip=CKV_AWS_31:users with passwords of their own stand in the place of one token for all
  count = local.has_broker ? 1 : 0

  replication_group_id = "${var.name}-broker"
  description          = "Celery's messages of Forebay's background"
  engine               = "valkey"
  engine_version       = var.engine_version
  node_type            = var.broker_node_type
  port                 = local.port

  cluster_mode               = "disabled"
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true

  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = [aws_security_group.this.id]
  parameter_group_name = aws_elasticache_parameter_group.broker[0].name
  user_group_ids       = [aws_elasticache_user_group.this.user_group_id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = module.key.arn

  maintenance_window         = "sun:03:30-sun:04:30"
  auto_minor_version_upgrade = true
  apply_immediately          = false
}

# The URL of each kind of process; External Secrets brings them into the cluster.
resource "aws_secretsmanager_secret" "urls" {
  # checkov:skip=CKV2_AWS_57:a new password is `terraform apply -replace` and a rollout: ../../README.md
  name_prefix = "${var.name}-redis-"
  description = "URLs of Redis, by the kind of process"
  kms_key_id  = module.key.arn
}

resource "aws_secretsmanager_secret_version" "urls" {
  secret_id     = aws_secretsmanager_secret.urls.id
  secret_string = jsonencode(local.urls)
}

locals {
  alarms = merge(
    {
      cpu = {
        metric      = "EngineCPUUtilization"
        above       = 80
        description = "Its one thread is nearly busy. docs/scaling.md says what saturates first, and what to do."
      }
      memory = {
        metric      = "DatabaseMemoryUsagePercentage"
        above       = 75
        description = "Memory fills; at 100 % requests are refused with 503. Are there workers for what is queued?"
      }
      evictions = {
        metric      = "Evictions"
        above       = 0
        description = "Something was forgotten to make room: maxmemory-policy must be noeviction."
      }
    },
    var.durable ? {} : {
      lag = {
        metric      = "ReplicationLag"
        above       = 5
        description = "A replica is seconds behind: what is accepted now waits for it."
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = {
    for pair in setproduct(keys(local.alarms), local.nodes) :
    "${pair[0]}-${pair[1]}" => merge(local.alarms[pair[0]], { node = pair[1] })
  }

  alarm_name          = "redis-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/ElastiCache"
  metric_name         = each.value.metric
  dimensions          = { CacheClusterId = each.value.node }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.alarm_topic_arn]
  ok_actions          = [var.alarm_topic_arn]

  depends_on = [aws_elasticache_replication_group.this]
}
