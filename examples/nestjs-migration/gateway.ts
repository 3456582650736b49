// The gateway: HTTP in front of whatever answers on NATS. It is the same before, during and after the move.
import 'reflect-metadata';
import {
  Body, Controller, Get, Headers, HttpCode, HttpException, Inject, Module, Param, Patch, Post,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { ClientProxy, ClientsModule, NatsRecordBuilder, Transport } from '@nestjs/microservices';
import { headers } from '@nats-io/transport-node';
import { catchError, firstValueFrom, timeout, toArray } from 'rxjs';

@Controller()
class UsersController {
  constructor(
    @Inject('USERS_SERVICE') private readonly users: ClientProxy,
    @Inject(JwtService) private readonly jwt: JwtService,
  ) {}

  @Post('login')
  @HttpCode(200)
  login(@Body() body: { userId: string; roles?: string[] }) {
    return { accessToken: this.jwt.sign({ sub: body.userId, roles: body.roles ?? [] }, { expiresIn: '15m' }) };
  }

  @Get('users')
  list(@Headers('authorization') token?: string) {
    return this.ask({ cmd: 'list_users' }, {}, token);
  }

  @Get('users/:id')
  profile(@Param('id') userId: string, @Headers('authorization') token?: string) {
    return this.ask('get_user_profile', { userId }, token);
  }

  @Patch('users/:id')
  rename(@Param('id') userId: string, @Body() body: { name: unknown }, @Headers('authorization') token?: string) {
    return this.ask('update_user_profile', { userId, name: body.name }, token);
  }

  @Get('users/:id/history')
  history(@Param('id') userId: string, @Headers('authorization') token?: string) {
    return this.stream('user_history', { userId }, token);
  }

  @Post('users/:id/visits')
  @HttpCode(202)
  async visit(@Param('id') userId: string) {
    await firstValueFrom(this.users.emit('user.visited', { userId }), { defaultValue: undefined });
  }

  @Get('users/:id/visits')
  visits(@Param('id') userId: string, @Headers('authorization') token?: string) {
    return this.ask('count_visits', { userId }, token);
  }

  private ask(pattern: unknown, data: object, token?: string) {
    return firstValueFrom(this.call(pattern, data, token), { defaultValue: undefined });
  }

  private stream(pattern: unknown, data: object, token?: string) {
    return firstValueFrom(this.call(pattern, data, token).pipe(toArray()));
  }

  private call(pattern: unknown, data: object, token?: string) {
    const sent = headers();
    if (token) sent.set('authorization', token);
    const record = new NatsRecordBuilder(data).setHeaders(sent).build();
    return this.users.send(pattern, record).pipe(
      timeout(5_000),
      catchError((error: { status?: unknown; code?: string; message?: string }) => {
        const status = typeof error.status === 'number' ? error.status : 500;
        throw new HttpException({ code: error.code ?? 'INTERNAL', message: error.message }, status);
      }),
    );
  }
}

@Module({
  imports: [
    JwtModule.register({ secret: process.env.JWT_SECRET }),
    ClientsModule.register([
      { name: 'USERS_SERVICE', transport: Transport.NATS, options: { servers: [process.env.NATS_URL!] } },
    ]),
  ],
  controllers: [UsersController],
})
class GatewayModule {}

const app = await NestFactory.create(GatewayModule, { logger: false });
await app.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
console.log(`READY ${await app.getUrl()}`);
