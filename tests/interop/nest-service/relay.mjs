// A NestJS service between two of ours: `relay` asks `trace.inner` and answers what it heard. It passes on the W3C
// trace headers of its request, which NestJS does not do by itself, as a team writes that in its handlers.
// env: NATS_URL (nats://127.0.0.1:4222). Prints `READY {}` on stdout when it listens.
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { Controller, Module } from '@nestjs/common';
import { ClientProxyFactory, Ctx, MessagePattern, NatsRecordBuilder, Payload, Transport } from '@nestjs/microservices';
import { headers } from '@nats-io/transport-node';
import { lastValueFrom } from 'rxjs';

const options = { servers: [process.env.NATS_URL || 'nats://127.0.0.1:4222'], name: 'relay' };
const client = ClientProxyFactory.create({ transport: Transport.NATS, options });

class Relay {
  async relay(data, ctx) {
    const passed = headers();
    for (const name of ['traceparent', 'tracestate']) {
      const value = ctx.getHeaders()?.get(name);
      if (value) passed.set(name, value);
    }
    const inner = await lastValueFrom(client.send('trace.inner', new NatsRecordBuilder(data).setHeaders(passed).build()));
    return { parent: passed.get('traceparent') || null, inner };
  }
}
Controller()(Relay);
Payload()(Relay.prototype, 'relay', 0);
Ctx()(Relay.prototype, 'relay', 1);
MessagePattern('relay')(Relay.prototype, 'relay', Object.getOwnPropertyDescriptor(Relay.prototype, 'relay'));

class App {}
Module({ controllers: [Relay] })(App);
const app = await NestFactory.createMicroservice(App, { transport: Transport.NATS, logger: false, options });
await app.listen();
console.log('READY {}');
