output "bucket" {
  description = "For `terraform init -backend-config=bucket=…` of an environment."
  value       = aws_s3_bucket.state.id
}
