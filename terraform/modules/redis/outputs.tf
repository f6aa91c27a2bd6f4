output "host" {
  description = "The primary, whichever node that is; of a Cluster, the name that finds its nodes."
  value       = local.host
}

output "port" {
  description = "Its port."
  value       = local.port
}

output "processes" {
  description = "What has a URL in the secret: kinds of process, and `broker` if Celery's messages are elsewhere."
  value       = concat(keys(local.rights), local.has_broker ? ["broker"] : [])
}

output "durability" {
  description = "Forebay's setting of the same name: `replicated` if gateways have to wait for a replica, `disk` if the server answers only when it is written."
  value       = var.durable ? "disk" : "replicated"
}

output "secret_name" {
  description = "Secret with the URLs, by kind of process."
  value       = aws_secretsmanager_secret.urls.name
}

output "secret_arn" {
  description = "The same, for policies."
  value       = aws_secretsmanager_secret.urls.arn
}

output "kms_key_arn" {
  description = "Key that the secret is encrypted with."
  value       = module.key.arn
}
