# Where images, artifacts and files are kept.

data "aws_caller_identity" "current" {}

module "key" {
  source = "../key"

  name        = "${var.name}-registry"
  description = "Images, artifacts and files of ${var.name}"
}

resource "aws_ecr_repository" "this" {
  for_each = var.images

  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.deletable

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = module.key.arn
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each = aws_ecr_repository.this

  repository = each.value.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Keep the newest."
      selection = {
        tagStatus   = "any"
        countType   = "imageCountMoreThan"
        countNumber = var.kept_images
      }
      action = { type = "expire" }
    }]
  })
}

# artifacts/ has what `forebay models build` made, files/ what clients sent and what they are sent. Files are
# deleted by Forebay itself (file_retention_s).
module "bucket" {
  source = "../bucket"

  name        = "${var.name}-${data.aws_caller_identity.current.account_id}"
  kms_key_arn = module.key.arn
  kept_days   = 14
  deletable   = var.deletable
}
