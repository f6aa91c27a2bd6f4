mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name  = "water"
  zones = ["eu-central-1a", "eu-central-1b"]
}

run "a_way_out_of_each_zone" {
  assert {
    condition     = length(aws_nat_gateway.this) == 2
    error_message = "Each zone has a NAT gateway of its own."
  }

  assert {
    condition     = length(distinct(concat([for one in aws_subnet.private : one.cidr_block], [for one in aws_subnet.public : one.cidr_block]))) == 4
    error_message = "No two subnets have the same addresses."
  }
}

run "one_way_out" {
  variables {
    nat_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.private) == 2
    error_message = "Both zones go out through one NAT gateway."
  }
}
