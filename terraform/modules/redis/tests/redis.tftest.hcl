mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "random" {}

variables {
  name                      = "water"
  vpc_id                    = "vpc-1"
  subnet_ids                = ["subnet-1", "subnet-2"]
  client_security_group_ids = { nodes = "sg-1" }
  node_type                 = "cache.r7g.large"
  users_file                = "../../../infra/redis/users.acl"
  alarm_topic_arn           = "arn:aws:sns:eu-central-1:123456789012:water"
}

run "durable" {
  assert {
    condition     = aws_elasticache_replication_group.this.durability == "sync" && aws_elasticache_replication_group.this.num_node_groups == 1
    error_message = "A durable Redis is a Cluster that writes before it answers."
  }

  assert {
    condition     = length(aws_elasticache_replication_group.broker) == 1 && contains(output.processes, "broker")
    error_message = "Celery's messages need a server that is no Cluster."
  }

  assert {
    condition     = output.durability == "disk" && startswith(jsondecode(aws_secretsmanager_secret_version.urls.secret_string).gateway, "rediss+cluster://forebay-gateway:")
    error_message = "Gateways are told of a Cluster."
  }
}

run "replicated" {
  variables {
    durable  = false
    replicas = 1
  }

  assert {
    condition     = aws_elasticache_replication_group.this.num_cache_clusters == 2 && length(aws_elasticache_replication_group.broker) == 0
    error_message = "One primary, one replica, and no server beside it."
  }

  assert {
    condition     = output.durability == "replicated"
    error_message = "Gateways have to wait for the replica."
  }
}
