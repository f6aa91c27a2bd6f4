variable "name" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 of a-z, 0-9 and hyphens, beginning with a letter."
  }
}

variable "emails" {
  description = "Who is told; each gets a mail that asks whether they want that."
  type        = set(string)

  validation {
    condition     = length(var.emails) > 0 && alltrue([for one in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", one))])
    error_message = "emails: at least one address."
  }
}

variable "monthly_budget" {
  description = "What all of it may cost a month, US dollars; it stops nothing."
  type        = number

  validation {
    condition     = var.monthly_budget > 0
    error_message = "monthly_budget: more than 0."
  }
}
