# People who manage the server. The register of operators says who has which
# roles, and for which part of the fleet; data.json says which actions a role may
# do: exact names, or patterns with * such as "device.*".
package hallmark

# METADATA
# title: Operators do what one of their roles may
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3", "NIST800-53:AC-6"]
allow if {
	input.subject.type == "user"
	permitted
}

# METADATA
# title: And nothing else
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3"]
deny contains {"code": "not_permitted", "detail": detail} if {
	input.subject.type == "user"
	not permitted
	detail := sprintf(
		"operator %s may not do %s; a role under settings.roles in the policy's data.json would have to allow it",
		[input.subject.id, input.action.name],
	)
}

# METADATA
# title: What a role may do
# description: What devices ask is not for people, whatever a pattern says.
permitted if {
	not input.action.name in {"certificate.issue", "certificate.renew", "device.attest", "attestation.certify"}
	some role in held
	some pattern in data.settings.roles[role]
	glob.match(pattern, null, input.action.name)
}

# METADATA
# title: Everybody renews their own certificate
permitted if {
	input.action.name == "operator.renew"
	input.resource.id == input.subject.id
}

# METADATA
# title: Everybody signs in and out, and looks at their own sessions
permitted if {
	startswith(input.action.name, "session.")
	input.resource.properties.operator == input.subject.id
}

# METADATA
# title: The roles that count for this question
held contains role if {
	some role in input.subject.properties.roles
	within(role)
}

# METADATA
# title: Roles of data.json, where there was no register of operators yet
# description: They count for everything.
held contains role if {
	some role in data.settings.operators[input.subject.id]
}

# METADATA
# title: Who came by break-glass is an administrator, with a reason
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3(2)"]
held contains "admin" if {
	input.context.breakglass.reason != ""
}

# A role that is held for everything, or for a part of the fleet that this question is within.
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
