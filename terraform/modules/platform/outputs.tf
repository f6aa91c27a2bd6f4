output "namespace" {
  description = "Where Forebay's pods are."
  value       = local.namespace
}

output "role_arn" {
  description = "IAM role of Forebay's pods."
  value       = aws_iam_role.this["forebay"].arn
}
