output "repositories" {
  description = "URL of each repository of images, by its name."
  value       = { for name, one in aws_ecr_repository.this : name => one.repository_url }
}

output "bucket" {
  description = "Bucket of artifacts (artifacts/) and files (files/)."
  value       = module.bucket.id
}

output "bucket_arn" {
  description = "The same, for policies."
  value       = module.bucket.arn
}

output "kms_key_arn" {
  description = "Key that all of it is encrypted with."
  value       = module.key.arn
}
