package console

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// tagOf is a strong ETag of a representation (RFC 9110, Section 8.8.3).
func tagOf(representation []byte) string {
	sum := sha256.Sum256(representation)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// tagged reports whether answers of the route have an ETag.
func (s *shape) tagged() bool { return slices.Contains(s.gives.headers, "ETag") }

// tagged adds the ETag of what is answered, unless it has one, and leaves the
// rest away where the caller has it already.
func (a answer) tagged(r *http.Request) (answer, error) {
	if a.status != http.StatusOK {
		return a, nil
	}
	if a.value != nil {
		text, err := encode(a.value)
		if err != nil {
			return answer{}, err
		}
		a.raw, a.value = text, nil
		a.set("Content-Type", jsonType)
		a.set("ETag", tagOf(text))
	}
	if tag := a.header["ETag"]; matches(r.Header.Values("If-None-Match"), tag) {
		return answer{status: http.StatusNotModified, header: map[string]string{"ETag": tag}}, nil
	}
	return a, nil
}

// matches reports whether If-None-Match names the tag, by weak comparison (RFC 9110, Section 13.1.2).
func matches(headers []string, tag string) bool {
	return slices.ContainsFunc(tagsIn(headers), func(t string) bool { return t == "*" || strings.TrimPrefix(t, "W/") == tag })
}

// unchanged returns what has to hold when the change is made that the call asks
// for: that the object in its path is still the one that an If-Match names (RFC 9110, Section 13.1.1).
// To look at it takes the right to. It is nil where there is no If-Match.
func (c *Console) unchanged(call *call, rt *route) (func(context.Context) error, error) {
	tags := tagsIn(call.Header.Values("If-Match"))
	if call.Header["If-Match"] == nil {
		return nil, nil
	}
	show, there := c.objects[rt.object()]
	if !there || rt.method == http.MethodGet {
		return nil, fault.New(fault.Malformed, "no_precondition", "this call heeds no If-Match: there is no object with an ETag that it changes")
	}
	look := *call
	look.action, look.attempt = show.action, nil
	deed, err := show.plan(c, &look)
	if err != nil {
		return nil, err
	}
	if err := c.characterise(call.Context(), &deed); err != nil {
		return nil, err
	}
	permit, err := c.decide(&look, show.action, &deed)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		a, err := deed.do(ctx, permit)
		if err != nil {
			return err
		}
		text, err := encode(a.value)
		if err != nil {
			return err
		}
		if tag := tagOf(text); !slices.Contains(tags, "*") && !slices.Contains(tags, tag) {
			return fault.New(fault.Malformed, codeChanged, "it is no longer what your If-Match names: look at it again")
		}
		return nil
	}, nil
}

// object is the pattern of the object that a route is about: its path up to the first parameter.
func (rt *route) object() string {
	if end := strings.IndexByte(rt.pattern, '}'); end > 0 {
		return rt.pattern[:end+1]
	}
	return ""
}

// shownObjects are the routes that show one object each, by their patterns.
func shownObjects() map[string]route {
	shown := map[string]route{}
	for _, rt := range routes {
		if rt.method == http.MethodGet && rt.object() == rt.pattern && rt.tagged() {
			shown[rt.pattern] = rt
		}
	}
	return shown
}

// tagsIn are the entity tags of a list. None that this server makes has a comma in it.
func tagsIn(headers []string) []string {
	var tags []string
	for _, t := range strings.Split(strings.Join(headers, ","), ",") {
		if t = strings.TrimSpace(t); t != "" {
			tags = append(tags, t)
		}
	}
	return tags
}
