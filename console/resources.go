package console

import (
	"context"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// characterise fills in what rules want to know of the one thing that a deed
// is about, so that a role can be held for a part of the fleet: of a device its model,
// batch and labels, and of what belongs to a device those of the device. What
// is not there is described as little as it can be, and the verb says that it is missing.
func (c *Console) characterise(ctx context.Context, d *deed) error {
	if d.resource.Properties != nil {
		return nil
	}
	p, err := c.describe(ctx, d)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	d.resource.Properties = p
	return nil
}

func (c *Console) describe(ctx context.Context, d *deed) (policy.Properties, error) {
	id := d.resource.ID
	switch kind := d.resource.Type; {
	case id == "":
		return nil, nil
	case kind == "device":
		return c.describeDevice(ctx, id)
	case kind == "certificate":
		found, err := c.Authority.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		return c.belonging(ctx, found.Device, found.Profile)
	case kind == "request":
		found, err := c.Requests.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		if e := found.Errand; e != nil {
			return policy.Properties{"operator": e.Operator, "action": e.Action, "object": e.Object}, nil
		}
		return c.belonging(ctx, found.Device, found.Profile)
	case kind == "decision":
		return c.describeDecision(ctx, id)
	case kind == "token":
		return c.describeToken(ctx, d)
	case kind == "baseline":
		device, _ := d.parameters["device"].(string) // one that is learned from it
		return c.belonging(ctx, device, "")
	case kind == "operator":
		found, err := c.People.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		return found.Resource().Properties, nil
	case kind == "policy":
		return c.describeProposal(ctx, d)
	}
	return nil, nil
}

// describeProposal describes a proposal, and the change of the rules that it is.
func (c *Console) describeProposal(ctx context.Context, d *deed) (policy.Properties, error) {
	found, err := c.Releases.Find(ctx, d.resource.ID)
	if err != nil {
		return nil, err
	}
	resource, change := found.Question()
	d.change = change
	return resource.Properties, nil
}

// describeToken describes a token by the device that it is for. A new one is in no store yet.
func (c *Console) describeToken(ctx context.Context, d *deed) (policy.Properties, error) {
	device, isNew := d.parameters["device"].(string)
	profile, _ := d.parameters["profile"].(string)
	if !isNew {
		found, err := c.Tokens.Find(ctx, d.resource.ID)
		if err != nil {
			return nil, err
		}
		device, profile = found.Device, found.Profile
	}
	return c.belonging(ctx, device, profile)
}

// belonging describes what belongs to a device, by that device, and is of a profile.
func (c *Console) belonging(ctx context.Context, device, profile string) (policy.Properties, error) {
	p := policy.Properties{}
	if device != "" {
		var err error
		if p, err = c.describeDevice(ctx, device); err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		delete(p, "state") // of the device, not of what belongs to it
		p["device"] = device
	}
	if profile != "" {
		p["profile"] = profile
	}
	return p, nil
}

// describeDevice is the device as rules see it; one that the register does not know comes with an error.
func (c *Console) describeDevice(ctx context.Context, id string) (policy.Properties, error) {
	device, err := c.Fleet.Device(ctx, id)
	if err != nil {
		return policy.Properties{"known": false}, err
	}
	return device.Properties(), nil
}
