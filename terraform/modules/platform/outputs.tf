output "namespace" {
  description = "Where Forebay's pods are."
  value       = local.namespace
}

output "monitoring_secret" {
  description = "Secret that the API key of the scope `dashboard` is put into, as {\"token\": \"…\"}."
  value       = aws_secretsmanager_secret.monitoring.name
}

output "role_arn" {
  description = "IAM role of Forebay's pods."
  value       = aws_iam_role.this["forebay"].arn
}
