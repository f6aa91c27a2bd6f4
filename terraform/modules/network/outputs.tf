output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Subnets of nodes, pods and Redis, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Subnets of balancers and NAT gateways, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "cidr" {
  description = "Addresses of the network."
  value       = aws_vpc.this.cidr_block
}
