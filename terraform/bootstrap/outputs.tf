output "bucket" {
  description = "For `terraform init -backend-config=bucket=…` of an environment."
  value       = module.states.id
}
