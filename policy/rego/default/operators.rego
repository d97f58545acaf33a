# People who manage the server. data.json says who has which roles, and which
# actions a role may do: exact names, or patterns with * such as "device.*".
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
	some role in data.settings.operators[input.subject.id]
	some pattern in data.settings.roles[role]
	glob.match(pattern, null, input.action.name)
}
