# People who manage the server. The register of operators says who has which
# roles, and for which part of the fleet; data.json says which actions a role may
# do: exact names, or patterns with * such as "device.*".
package hallmark

allow if {
	input.subject.type == "user"
	permitted
}

deny contains {"code": "not_permitted", "detail": detail} if {
	input.subject.type == "user"
	not permitted
	detail := sprintf(
		"operator %s may not do %s; a role under settings.roles in the policy's data.json would have to allow it",
		[input.subject.id, input.action.name],
	)
}

permitted if {
	not input.action.name in {"certificate.issue", "certificate.renew", "device.attest", "attestation.certify"} # those are for devices
	some role in held
	some pattern in data.settings.roles[role]
	glob.match(pattern, null, input.action.name)
}

# Everybody renews their own certificate.
permitted if {
	input.action.name == "operator.renew"
	input.resource.id == input.subject.id
}

# The roles that count for this question.
held contains role if {
	some role in input.subject.properties.roles
	within(role)
}

# Before there was a register, roles stood in data.json. They count for everything.
held contains role if {
	some role in data.settings.operators[input.subject.id]
}

# Who came by break-glass may do what an administrator may, with a reason.
held contains "admin" if {
	input.context.breakglass.reason != ""
}

within(role) if {
	not input.subject.properties.scopes[role]
}

within(role) if {
	some scope in input.subject.properties.scopes[role]
	every name, value in object.remove(scope, ["labels"]) {
		place[name] == value
	}
	every name, value in object.get(scope, "labels", {}) {
		place.labels[name] == value
	}
}

# What a question is about: one thing by what is known of it, a list by what is searched for.
place := input.resource.properties if {
	input.resource.id != ""
} else := input.action.properties
