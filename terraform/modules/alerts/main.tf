# Who is told of what goes wrong, and of what it costs.

data "aws_caller_identity" "current" {}

locals {
  senders = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
}

module "key" {
  source = "../key"

  name          = "${var.name}-alarms"
  description   = "Alarms of ${var.name}"
  deletion_days = 7
  senders       = local.senders
}

resource "aws_sns_topic" "this" {
  name              = "${var.name}-alarms"
  kms_master_key_id = module.key.arn
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "Senders"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]

    principals {
      type        = "Service"
      identifiers = local.senders
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  arn    = aws_sns_topic.this.arn
  policy = data.aws_iam_policy_document.topic.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.emails

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_budgets_budget" "this" {
  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  # What carries the tag that every resource here does. The tag has to be made known to billing once:
  # ../../README.md.
  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:installation$%s", var.name)]
  }

  dynamic "notification" {
    for_each = { spent = ["ACTUAL", 80], over = ["ACTUAL", 100], foreseen = ["FORECASTED", 100] }

    content {
      notification_type         = notification.value[0]
      threshold                 = notification.value[1]
      threshold_type            = "PERCENTAGE"
      comparison_operator       = "GREATER_THAN"
      subscriber_sns_topic_arns = [aws_sns_topic.this.arn]
    }
  }

  depends_on = [aws_sns_topic_policy.this]
}
