# What operators may do is bounded once more: by a second person, by the hour of
# the day, and by how often. The lists are in data.json, and empty at first. Who
# came by break-glass is not held up: two persons have opened that already.
package hallmark

# METADATA
# title: Dangerous actions need a second operator
# description: |
#   Those under settings.four_eyes wait under hallmark request list until somebody
#   else approves; then the same operator may do the same thing, once. That nobody
#   approves what they have asked for themselves is the server's own rule.
# labels:
#   control: ["IEC62443-4-2:CR2.1(4)", "NIST800-53:AC-3(2)", "NIST800-53:AC-5"]
hold contains {"code": "four_eyes", "detail": detail} if {
	input.subject.type == "user"
	not input.context.approval
	not input.context.breakglass
	among(data.settings.four_eyes)
	detail := sprintf("%s takes two operators: another one has to approve it, then ask again", [input.action.name])
}

# METADATA
# title: Some actions have their hours
# description: |
#   Of the rows of settings.windows that are about an action, one has to be open:
#   {"actions": ["device.retire"], "days": ["Mon", "Fri"], "from": "06:00", "to": "18:00"}, in UTC.
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3"]
deny contains {"code": "outside_window", "detail": detail} if {
	input.subject.type == "user"
	not input.context.breakglass
	count(windows) > 0
	not open_window
	detail := sprintf("%s is not done at this hour; it is done: %s", [
		input.action.name,
		concat("; ", {sprintf("%s %s-%s UTC", [concat(",", days_of(window)), window.from, window.to]) | some window in windows}),
	])
}

windows contains window if {
	some window in data.settings.windows
	among(window.actions)
}

open_window if {
	some window in windows
	substring(time.weekday(time.parse_rfc3339_ns(input.context.time)), 0, 3) in days_of(window)
	clock := substring(input.context.time, 11, 5)
	window.from <= clock
	clock < window.to
}

days_of(window) := object.get(window, "days", ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])

# METADATA
# title: Nobody does some things too often
# description: |
#   Rows of settings.rates: {"actions": ["device.retire"], "per_hour": 20}. The server counts what
#   this operator was allowed of this very action in the last hour, on all replicas together.
# labels:
#   control: ["IEC62443-4-2:CR7.1", "NIST800-53:AC-6"]
deny contains {"code": "too_often", "detail": detail} if {
	input.subject.type == "user"
	not input.context.breakglass
	some rate in data.settings.rates
	among(rate.actions)
	object.get(input.context, "last_hour", 0) >= rate.per_hour
	detail := sprintf("operator %s has done %s %d times within an hour, and the most is %d", [
		input.subject.id, input.action.name, input.context.last_hour, rate.per_hour,
	])
}

# METADATA
# title: A list that is no list stops everybody
# description: Rather than nobody. What a typing mistake has switched off would not be missed.
deny contains {"code": "settings_broken", "detail": detail} if {
	input.subject.type == "user"
	not input.context.breakglass
	some name in ["four_eyes", "windows", "rates"]
	not is_array(object.get(data.settings, name, []))
	detail := sprintf("settings.%s in the policy's data.json has to be a list", [name])
}

among(patterns) if {
	some pattern in patterns
	glob.match(pattern, null, input.action.name)
}
