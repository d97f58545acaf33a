# Devices that ask for certificates. Identity has been proven before policy is
# asked: input.subject.properties.auth says how, input.resource is the device as
# the register knows it.
package hallmark

# A device in service gets a first certificate on the strength of a token, of
# its factory certificate, or of the certificate it holds.
allow if {
	input.action.name == "certificate.issue"
	in_service
	input.subject.properties.auth.method in {"token", "idevid", "certificate"}
}

# It renews with the certificate it holds.
allow if {
	input.action.name == "certificate.renew"
	in_service
	input.subject.properties.auth.method == "certificate"
}

# A device nobody has imported is admitted on sight if a maker we trust vouches
# for it and data.json lists the profile under admit_unknown. The obligation to
# admit puts it into the register; without one the server would refuse it.
allow if admitted

terms["obligations"] := [{"type": "admit"}] if {
	input.resource.properties.known == false
	admitted
}

admitted if {
	input.action.name == "certificate.issue"
	input.resource.properties.known == false
	input.subject.id == input.resource.id
	input.subject.properties.auth.method == "idevid"
	input.action.properties.profile in data.settings.admit_unknown
}

in_service if {
	input.subject.type == "device"
	input.subject.id == input.resource.id
	input.resource.properties.state in {"expected", "active"}
}

# First certificates of the profiles under hold_profiles wait for an operator's
# yes. Renewals do not: the device has been looked at once. A list that is
# missing or broken holds everything.
hold contains {"code": "needs_approval", "detail": detail} if {
	input.action.name == "certificate.issue"
	not input.context.approval
	not free_of_approval
	detail := sprintf("profile %s needs an operator's approval; the device may ask again later", [input.action.properties.profile])
}

free_of_approval if {
	profile := input.action.properties.profile
	held := data.settings.hold_profiles
	is_array(held)
	not profile in held
}

# What is denied says what to do about it.
deny contains {"code": "device_unknown", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.known == false
	not admitted
	detail := sprintf("device %s is not in the register; import it with: hallmark device import FILE", [input.resource.id])
}

deny contains {"code": "device_quarantined", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.state == "quarantined"
	detail := sprintf("device %s is quarantined; when it is sound again: hallmark device release %[1]s", [input.resource.id])
}

deny contains {"code": "device_retired", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.state == "retired"
	detail := sprintf("device %s is retired for good; take it off the line", [input.resource.id])
}
