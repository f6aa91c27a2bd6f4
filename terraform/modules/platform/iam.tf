# IAM roles of service accounts (IRSA): each names the one account in the cluster that may be it.

locals {
  roles = {
    forebay = { namespace = local.namespace, account = local.account, policy = data.aws_iam_policy_document.forebay.json }
    secrets = { namespace = "external-secrets", account = "external-secrets", policy = data.aws_iam_policy_document.secrets.json }
    mount   = { namespace = "kube-system", account = "s3-csi-driver-sa", policy = data.aws_iam_policy_document.mount.json }
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = { for name, role in local.roles : name => "system:serviceaccount:${role.namespace}:${role.account}" }

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.cluster.oidc.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${var.cluster.oidc.issuer}:sub"
      values   = [each.value]
    }

    condition {
      test     = "StringEquals"
      variable = "${var.cluster.oidc.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

# Forebay's pods: files, and nothing else of AWS.
data "aws_iam_policy_document" "forebay" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.storage.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["files", "files/*"]
    }
  }

  statement {
    sid       = "Files"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${var.storage.bucket_arn}/files/*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.storage.kms_key_arn]
  }
}

# External Secrets: the URLs of Redis.
data "aws_iam_policy_document" "secrets" {
  statement {
    sid       = "Read"
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = [var.redis.secret_arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.redis.kms_key_arn]
  }
}

# The driver that mounts artifacts: reads those, writes nothing.
data "aws_iam_policy_document" "mount" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.storage.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["artifacts", "artifacts/*"]
    }
  }

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = ["${var.storage.bucket_arn}/artifacts/*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.storage.kms_key_arn]
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name_prefix        = "${var.name}-${each.key}-"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  role   = aws_iam_role.this[each.key].id
  policy = each.value.policy
}
