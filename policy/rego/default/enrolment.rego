# Devices that ask for certificates. Identity has been proven before policy is
# asked: input.subject.properties.auth says how, input.resource is the device as
# the register knows it.
package hallmark

# METADATA
# title: A device in service gets a certificate
# description: On the strength of a token, of its factory certificate, or of the certificate it holds.
# labels:
#   control: ["IEC62443-4-2:CR1.2", "NIST800-53:IA-3"]
allow if {
	input.action.name == "certificate.issue"
	input.subject.id == input.resource.id
	input.resource.properties.state in {"expected", "active"}
	input.subject.properties.auth.method in {"token", "idevid", "certificate"}
}

# METADATA
# title: A device renews with the certificate it holds
# labels:
#   control: ["IEC62443-4-2:CR1.5", "NIST800-53:IA-5"]
allow if {
	input.action.name == "certificate.renew"
	input.subject.properties.auth.method == "certificate"
	input.subject.id == input.resource.id
	input.resource.properties.state in {"expected", "active"}
}

# METADATA
# title: A device that nobody has imported is admitted where data.json says so
# description: |
#   A maker we trust has to vouch for it, and its profile to stand under
#   admit_unknown. The obligation to admit puts it into the register; without
#   one the server would refuse it.
# labels:
#   control: ["IEC62443-4-2:CR1.2", "NIST800-53:CM-8"]
allow if {
	input.resource.properties.known == false
	admitted
}

# METADATA
# title: Who is admitted goes into the register
terms["obligations"] := [{"type": "admit"}] if {
	input.resource.properties.known == false
	admitted
}

# METADATA
# title: An unknown device with a factory certificate, under a profile of admit_unknown
admitted if {
	input.action.name == "certificate.issue"
	input.resource.properties.known == false
	input.subject.id == input.resource.id
	input.subject.properties.auth.method == "idevid"
	input.action.properties.profile in data.settings.admit_unknown
}

# METADATA
# title: First certificates of some profiles wait for a person
# description: |
#   Those of the profiles under hold_profiles. Renewals do not: the device has
#   been looked at once. A list that is missing or broken holds everything.
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3"]
hold contains {"code": "needs_approval", "detail": detail} if {
	not free_of_approval
	not input.context.approval
	input.action.name == "certificate.issue"
	detail := sprintf("profile %s needs an operator's approval; the device may ask again later", [input.action.properties.profile])
}

free_of_approval if {
	held := data.settings.hold_profiles
	is_array(held)
	not input.action.properties.profile in held
}

# METADATA
# title: A profile takes only what settings.profiles says of it
# description: The proofs with which a device may come for its first certificate, and the models.
# labels:
#   control: ["IEC62443-4-2:CR1.2", "NIST800-53:IA-3"]
deny contains reason if {
	input.action.name == "certificate.issue"
	data.settings.profiles[input.action.properties.profile]
	some reason in unsuitable
}

unsuitable contains {"code": "proof_not_taken", "detail": detail} if {
	taken := data.settings.profiles[input.action.properties.profile].proofs
	not input.subject.properties.auth.method in taken
	detail := sprintf("profile %s takes no %s; it takes: %s", [
		input.action.properties.profile,
		object.get(input.subject.properties.auth, "method", "proof of that kind"),
		concat(", ", taken),
	])
}

unsuitable contains {"code": "model_not_taken", "detail": detail} if {
	taken := data.settings.profiles[input.action.properties.profile].models
	not input.resource.properties.model in taken
	detail := sprintf("profile %s is not for this device's model; it is for: %s", [
		input.action.properties.profile,
		concat(", ", taken),
	])
}

# METADATA
# title: Strangers are refused
# labels:
#   control: ["IEC62443-4-2:CR1.2", "NIST800-53:IA-3"]
deny contains {"code": "device_unknown", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.known == false
	not admitted
	detail := sprintf("device %s is not in the register; import it with: hallmark device import FILE", [input.resource.id])
}

# METADATA
# title: Quarantined devices are refused
# labels:
#   control: ["IEC62443-4-2:CR2.1", "IEC62443-4-2:CR3.4", "NIST800-53:IA-4"]
deny contains {"code": "device_quarantined", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.state == "quarantined"
	detail := sprintf("device %s is quarantined; when it is sound again: hallmark device release %[1]s", [input.resource.id])
}

# METADATA
# title: Retired devices are refused
# labels:
#   control: ["IEC62443-4-2:CR1.4", "NIST800-53:IA-4"]
deny contains {"code": "device_retired", "detail": detail} if {
	input.subject.type == "device"
	input.resource.properties.state == "retired"
	detail := sprintf("device %s is retired for good; take it off the line", [input.resource.id])
}
