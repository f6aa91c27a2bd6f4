output "id" {
  description = "Its name."
  value       = aws_s3_bucket.this.id
}

output "arn" {
  description = "The same, for policies."
  value       = aws_s3_bucket.this.arn
}
