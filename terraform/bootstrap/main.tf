# The bucket that keeps the state of everything else. Applied once, by hand, with state of its own
# on the machine where it is applied: ../README.md.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      project = "forebay"
      purpose = "terraform-state"
    }
  }
}

module "key" {
  source = "../modules/key"

  name        = "${var.bucket}-states"
  description = "Terraform's states, in ${var.bucket}"
}

module "states" {
  source = "../modules/bucket"

  name        = var.bucket
  kms_key_arn = module.key.arn
  kept_days   = 90
}
