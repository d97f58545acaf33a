package console

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// Gateways ask for the bundle again and again, as OPA's own agents do. Those
// that can wait for news get their answer when there is some ("long polling").
const (
	longestWait = 5 * time.Minute // whatever a caller asks for; enough, and within what firewalls forget

	// maxWaiting is how many callers may wait at a time: each holds one of the requests
	// that the listener has room for, and devices want the others.
	maxWaiting = 64

	// longPollType is the media type that tells OPA's agents that the server lets them wait.
	longPollType = "application/vnd.openpolicyagent.bundles"
)

// fetchBundle answers with the rules in force, signed, or that they are those that the caller has.
func (c *Console) fetchBundle(call *call) (deed, error) {
	return deed{
		resource: policyThing(""),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			patience := waitOf(call.Header.Values("Prefer"))
			held, err := c.Outlet.Fetch(ctx, p)
			if err != nil {
				return answer{}, err
			}
			waited := false
			if patience > 0 && matches(call.Header.Values("If-None-Match"), etag(held.Digest)) {
				if waited = c.linger(ctx, held.Digest, patience); waited {
					held, err = c.Outlet.Fetch(ctx, p)
				}
			}
			if err != nil {
				return answer{}, err
			}
			a := bundled(held.Bundle)
			a.header["ETag"] = etag(held.Digest)
			a.header["Cache-Control"] = "private, no-cache" // may be kept, and has to be asked about each time
			switch {
			case patience > 0 && !waited && c.crowded():
				return a, nil // the whole bundle, as one that does not wait: the agent goes back to plain polling
			case patience > 0:
				a.header["Content-Type"] = longPollType
			}
			if matches(call.Header.Values("If-None-Match"), etag(held.Digest)) {
				delete(a.header, "Content-Disposition")
				delete(a.header, "Content-Type")
				a.status, a.raw = http.StatusNotModified, nil
			}
			return a, nil
		},
	}, nil
}

// linger waits for other rules to come into force, if there is room to wait. It returns whether it did.
func (c *Console) linger(ctx context.Context, digest string, patience time.Duration) bool {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(c.leaving, cancel)()
	c.Outlet.Await(ctx, digest)
	return true
}

// crowded reports whether nobody else may wait.
func (c *Console) crowded() bool { return len(c.waiting) == cap(c.waiting) }

// Drain answers all who wait for news, now and from now on, so that the server can stop.
func (c *Console) Drain() { c.leave() }

// policyKey answers with the key by which gateways verify bundles.
func (c *Console) policyKey(call *call) (deed, error) {
	return deed{
		resource: policyThing(""),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			key, err := c.Outlet.Key(ctx, p)
			return ok(key), err
		},
	}, nil
}

// etag is the entity tag of rules: their digest. Whatever else a bundle has, its signature
// above all, may differ from replica to replica and changes nothing for who holds the rules.
func etag(digest string) string { return `"` + digest + `"` }

// waitOf is how long the caller would wait for news: the preference "wait" of RFC 7240,
// Section 4.3, in seconds. OPA writes it behind others as "modes=snapshot,delta;wait=30".
func waitOf(headers []string) time.Duration {
	preferences := strings.FieldsFunc(strings.Join(headers, ","), func(r rune) bool { return r == ',' || r == ';' })
	i := slices.IndexFunc(preferences, func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		return strings.EqualFold(strings.TrimSpace(name), "wait")
	})
	if i < 0 {
		return 0
	}
	_, value, _ := strings.Cut(preferences[i], "=")
	seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, longestWait)
}
