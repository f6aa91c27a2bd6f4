output "kubeconfig" {
  description = "Command that lets kubectl reach the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.cluster.name}"
}

output "repositories" {
  description = "Where images are pushed to, by name."
  value       = module.registry.repositories
}

output "bucket" {
  description = "Bucket of artifacts/ and files/."
  value       = module.registry.bucket
}

output "redis" {
  description = "Host of the primary."
  value       = module.redis.host
}
